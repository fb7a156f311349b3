"""Names that run code, or help with it, if an unpickler resolves them, and the opcodes that resolve names.

Each row is a module, a colon and names of that module. Nothing here is imported: a safe reader resolves none of them.
"""

import struct

_TABLE = """
os: system popen execl execv execve fork kill putenv posix_spawn spawnl startfile remove _wrap_close
posix: system fork execv posix_spawn
nt: system startfile
subprocess: Popen run call check_call check_output getoutput getstatusoutput
builtins: eval exec compile __import__ getattr setattr delattr open input breakpoint globals vars map filter type object
__builtin__: eval exec compile __import__ getattr open execfile file apply reduce
importlib: import_module reload __import__
importlib.util: module_from_spec spec_from_file_location
importlib.machinery: SourceFileLoader ExtensionFileLoader
runpy: run_path run_module _run_code
pty: spawn
webbrowser: open open_new get
code: interact InteractiveInterpreter InteractiveConsole.runsource
codeop: compile_command
timeit: timeit repeat main Timer
profile: run Profile.run
cProfile: run runctx Profile.run
trace: Trace.run
pdb: run runcall set_trace Pdb.run
bdb: Bdb.run Bdb.runeval
doctest: debug_script
idlelib.pyshell: ModifiedInterpreter.runcommand
idlelib.run: Executive.runcode
idlelib.autocomplete: AutoComplete.fetch_completions
idlelib.debugobj: ObjectTreeItem.SetText
lib2to3.pgen2.grammar: Grammar.loads
lib2to3.pgen2.pgen: ParserGenerator.make_label
ensurepip: _run_pip bootstrap
pip: main
pip._internal: main
pip._internal.cli.main: main
venv: create
pydoc: pipepager locate
distutils.file_util: write_file
operator: attrgetter methodcaller itemgetter call
_operator: attrgetter methodcaller
functools: partial reduce partialmethod
_functools: partial
itertools: starmap
types: FunctionType CodeType MethodType SimpleNamespace
marshal: loads load
pickle: loads load Unpickler _loads
_pickle: loads Unpickler
shelve: open
dill: loads load
cloudpickle: loads load
joblib: load
copy: copy deepcopy
copyreg: _reconstructor __newobj__ add_extension pickle
weakref: finalize
atexit: register
signal: signal
threading: Thread Timer
multiprocessing: Process Pool
multiprocessing.util: spawnv_passfds
concurrent.futures: ThreadPoolExecutor
asyncio: create_subprocess_shell run
asyncio.unix_events: _UnixSubprocessTransport._start
_posixsubprocess: fork_exec
ctypes: CDLL cast
ctypes.util: find_library
_ctypes: dlopen
cffi: FFI
socket: socket create_connection
ssl: get_server_certificate
http.client: HTTPSConnection
http.server: test
urllib.request: urlopen urlretrieve
ftplib: FTP
smtplib: SMTP
telnetlib: Telnet
requests: get post
requests.api: get
aiohttp.client: ClientSession
shutil: rmtree copy move unpack_archive make_archive
pathlib: Path Path.write_text PosixPath
io: open FileIO open_code
codecs: open encode decode
tempfile: mktemp NamedTemporaryFile
zipimport: zipimporter
site: addsitedir execsitecustomize
sys: exit setrecursionlimit modules
platform: popen
commands: getoutput
logging.config: dictConfig listen
uuid: _get_command_stdout
cgitb: lookup
sqlite3: connect
tkinter: Tk
_aix_support: _read_cmd_output
_osx_support: _read_output
_pyrepl.pager: pipe_pager
numpy: load fromfile memmap
numpy.lib.npyio: load
numpy.testing: runstring
numpy.testing._private.utils: runstring
numpy.f2py.crackfortran: getlincoef param_eval _eval_length
numpy.f2py: compile run_main
numpy.distutils.exec_command: exec_command
numpy.ma.core: _mareconstruct
numpy.core.multiarray: _reconstruct
pandas: read_pickle eval
torch: load save compile __dict__ storage.os.system serialization.os.system hub.load import_ir_module
torch.storage: _load_from_bytes os.system
torch.serialization: load os os.system _load open
torch.hub: load _load_local load_state_dict_from_url
torch.jit: load script _script.script
torch.jit.unsupported_tensor_ops: execWrapper
torch.jit._script: script_if_tracing
torch._utils: _rebuild_tensor_v2.__globals__ _rebuild_parameter_with_state importlib
torch._tensor: _rebuild_from_type_v2
torch._inductor.codecache: compile_file PyCodeCache.load
torch._inductor.runtime.compile_tasks: _reload_python_module
torch._dynamo.guards: GuardBuilder.get
torch.utils._config_module: ConfigModule.load_config
torch.utils.bottleneck.__main__: run_cprofile run_autograd_prof
torch.utils.collect_env: run
torch.utils.data.datapipes.utils.decoder: basichandlers
torch.utils.cpp_extension: load load_inline
torch.package: PackageImporter
torch.multiprocessing: spawn
torch.distributed.rpc: rpc_sync
torch.fx.experimental.symbolic_shapes: ShapeEnv.evaluate_guards_expression
torch.fx.graph_module: reduce_graph_module
torch.nn.modules.linear: Linear
torch.ao.quantization: QConfig
transformers: AutoModel.from_pretrained
tensorflow: keras.models.load_model
tensorflow.python.ops.io_ops: write_file
keras.layers: Lambda
collections: namedtuple OrderedDict.fromkeys abc.sys
cjkclip: load
cjkclip.checkpoints.weights.pickle: Call
__main__: anything
"""
ROWS = [line.partition(": ") for line in _TABLE.split("\n") if line]
NAMES = [(module, name) for module, _, names in ROWS for name in names.split()]


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def forms(module: str, name: str) -> dict[str, bytes]:
    """Return pickles that would resolve a name and, in most cases, call it, keyed by their special feature."""
    plain = f"c{module}\n{name}\n".encode()
    argument = _text("touch bitten")
    stacked = b"\x80\x04" + _text(module) + b"\x94" + _text(name) + b"\x94\x93"
    return {
        "GLOBAL": plain + b".",
        "GLOBAL, REDUCE": plain + argument + b"\x85R.",
        "protocol 0": plain + b"(S'touch bitten'\ntR.",
        "STACK_GLOBAL, REDUCE": stacked + argument + b"\x85R.",
        "names from the memo": b"\x80\x04" + _text(name) + b"\x940" + _text(module) + b"h\0\x93)R.",
        "protocol 5": b"\x80\x05\x95" + struct.pack("<Q", len(stacked) + 2) + stacked[2:] + b")R.",
        "NEWOBJ": plain + argument + b"\x85\x81.",
        "NEWOBJ_EX": stacked + argument + b"\x85}\x92.",
        "INST": b"(" + argument + f"i{module}\n{name}\n.".encode(),
        "OBJ": b"(" + plain + argument + b"o.",
        "BUILD": plain + b")\x81}" + argument + b"Nsb.",
        "a state of slots": b"ccollections\nOrderedDict\n)R" + b"N}" + _text("__reduce__") + plain + b"s\x86b.",
        "a value": b"}" + _text("w") + plain + b"s.",
        "a key": b"}" + plain + b"Ns.",
        "a persistent id": b"(" + _text("storage") + plain + b"X\1\0\0\x000" + b"X\3\0\0\0cpuK\4tQ.",
        "thrown away": plain + b"0}.",
        "before the end of another": b"}0" + plain + b".",
    }
