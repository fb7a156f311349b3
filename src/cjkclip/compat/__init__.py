"""Other packages' names over cjkclip's models, so that published code runs with only the import line changed."""
