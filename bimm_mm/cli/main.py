"""The command ``bimm``: one name for all tools, from any folder."""

import os
import runpy
import sys
from pathlib import Path

from ..config.paths import CONFIGS
from ..version import __version__
from .completion import completion_script

_PACKAGE = Path(__file__).parents[1]
# Commands, the tools that do them, and what they do.
COMMANDS = {
    'train': ('train.py', 'train a model from a config'),
    'dist-train': ('dist_train.sh', 'the same on several GPUs: dist-train CONFIG GPUS [ARGUMENTS]'),
    'test': ('test.py', "test a checkpoint with a config's test settings"),
    'demo': ('demo.py', 'pretrain a small BIMM on generated clips and show what it learned'),
    'inference': ('inference.py', 'classes or features of videos'),
    'preflight': ('misc/preflight.py', 'measure what a run will cost, and what to change'),
    'config': ('misc/print_config.py', 'print a config with everything it inherits'),
    'verify': ('misc/verify_dataset.py', 'find missing and broken files of a data set'),
    'resize': ('dataset_converters/resize_videos.py', 'rewrite videos so that they decode fast'),
    'extract-contours': (
        'dataset_converters/extract_contours.py',
        'make the contours that the target of stage V2 reads',
    ),
    'extract-codes': ('dataset_converters/extract_codes.py', 'make the codes of videos'),
    'make-codebook': ('dataset_converters/make_codebook.py', 'make a codebook of patches'),
    'make-captions': ('dataset_converters/make_captions.py', 'make captions of videos'),
    'make-small-clip': (
        'dataset_converters/make_small_clip.py',
        'train a small CLIP on clips and captions, where none can be downloaded',
    ),
    'convert-tokenizer': ('model_converters/convert_tokenizer.py', 'take over a tokenizer'),
    'import': ('model_converters/import_checkpoint.py', 'convert checkpoints of other libraries'),
    'export': ('model_converters/export_branch.py', 'write an encoder for other libraries'),
    'export-onnx': ('deployment/export_onnx.py', 'write a model as ONNX'),
    'reconstruct': ('visualization/reconstruct.py', 'draw what a model reconstructs'),
    'browse': ('visualization/browse_targets.py', 'draw what training will see'),
    'curves': ('analysis_tools/plot_logs.py', 'draw the curves of runs'),
    'knn': ('benchmarks/knn.py', 'nearest neighbors of a frozen encoder'),
    'retrieval': ('benchmarks/retrieval.py', 'find videos by their captions'),
    'pathway': ('analysis_tools/probe_pathway.py', 'probe every block of a frozen encoder'),
    'flops': ('analysis_tools/get_flops.py', 'count parameters and multiply-adds'),
    'memory': ('analysis_tools/memory.py', 'count the memory of a step and the largest batch'),
    'ablate': ('ablate.py', 'run a study: short runs that are compared'),
}


def tools_folder() -> Path:
    """Return the folder of the tools: the repository's, or the copy in an installed package."""
    folder = _PACKAGE.parent / 'tools'
    return folder if (folder / 'train.py').is_file() else _PACKAGE / '.mim' / 'tools'


def usage() -> str:
    """List the commands."""
    lines = [f'  {name:17s} {about}' for name, (_, about) in COMMANDS.items()]
    head = (
        'usage: bimm COMMAND [ARGUMENTS]; bimm COMMAND --help says more; '
        'bimm --completion bash, or zsh\n\n'
    )
    return head + '\n'.join(lines)


def main() -> None:
    """Run the tool that a command names, with the arguments behind it."""
    name, *arguments = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        print(usage())
        return
    if name == '--version':
        print(__version__)
        return
    if name == '--completion':
        recipes = (path.stem for path in CONFIGS.rglob('*.py') if path.parent.name != '_base_')
        paths = {command: tools_folder() / tool for command, (tool, _) in COMMANDS.items()}
        try:
            print(completion_script((arguments or ['bash'])[0], paths, recipes))
        except ValueError as error:
            sys.exit(f'bimm {error}')
        return
    if name not in COMMANDS:
        sys.exit(f"bimm: no command '{name}'\n\n{usage()}")
    path = tools_folder() / COMMANDS[name][0]
    if path.suffix == '.sh':
        # its `python` is this one
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
        env = os.environ | dict(PATH=search, VIRTUAL_ENV=sys.prefix)
        os.execvpe('bash', ['bash', str(path), *arguments], env)
    sys.argv = [f'bimm {name}', *arguments]
    runpy.run_path(str(path), run_name='__main__')
