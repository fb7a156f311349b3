"""Names and shapes of other packages over the models of this one: no arithmetic. Nothing in the package imports it."""
