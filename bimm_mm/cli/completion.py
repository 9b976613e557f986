"""Completion of the command ``bimm`` by the shell."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

SHELLS = ('bash', 'zsh')
# The words are in the script: asking Python at each key would import torch.
SCRIPT = """{start}
_bimm() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words='{commands}'
    elif [ "${{word#-}}" != "$word" ]; then
        case ${{COMP_WORDS[1]}} in
{options}
        esac
    else
        case ${{COMP_WORDS[1]}} in
            {takers}) words='{recipes}' ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [ "$COMP_CWORD" -eq 1 ] || COMPREPLY+=($(compgen -f -- "$word"))
}}
complete -o filenames -F _bimm bimm
"""


def completion_script(shell: str, tools: Mapping[str, Path], recipes: Iterable[str]) -> str:
    """Write the script that a shell reads: commands, their options, and names of recipes.

    Args:
        shell: 'bash' or 'zsh'.
        tools: Command to the file of its tool.
        recipes: Bare names.

    Raises:
        ValueError: The shell is unknown.
    """
    if shell not in SHELLS:
        raise ValueError(f'--completion {shell}: must be one of {", ".join(SHELLS)}')
    # the script for several processes takes the arguments of train.py
    tools = {
        command: path.with_name('train.py') if path.suffix == '.sh' else path
        for command, path in tools.items()
    }
    options = {command: options_of(path) for command, path in tools.items()}
    lines = [f"            {name}) words='{' '.join(words)}' ;;" for name, words in options.items()]
    takers = [command for command, path in tools.items() if "'config'" in path.read_text()]
    return SCRIPT.format(
        start='autoload -U +X bashcompinit && bashcompinit' if shell == 'zsh' else '',
        commands=' '.join(tools),
        options='\n'.join(lines),
        takers='|'.join(takers),
        recipes=' '.join(sorted(set(recipes))),
    ).lstrip()


def options_of(path: Path) -> list[str]:
    """List the options that a tool's source, or a function that tools share, names."""
    source = path.read_text()
    shared = Path(__file__).with_name('arguments.py').read_text()
    functions = [node for node in ast.parse(shared).body if isinstance(node, ast.FunctionDef)]
    trees = [ast.parse(source), *(f for f in functions if f'{f.name}(' in source)]
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (
        argument.value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == 'add_argument'
        for argument in call.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith('--')
    )
    return [*dict.fromkeys(named), '--help']
