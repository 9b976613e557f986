"""Let mmcv 2.1.0's setup.py read its version on Python 3.13; install.sh puts this on PYTHONPATH.

It runs ``exec`` in a function and looks for what that set in ``locals()``, which since PEP 667 is a
copy. While mmcv is compiled, and at no other time, ``exec`` writes to the frame itself, as before.
"""

import builtins
import sys

_exec = builtins.exec


def exec_in_frame(code, globals=None, locals=None, /, **kwargs):
    """``exec``, whose new names show in the caller's ``locals()``."""
    if globals is None:
        frame = sys._getframe(1)
        globals, locals = frame.f_globals, frame.f_locals if locals is None else locals
    return _exec(code, globals, locals, **kwargs)


if sys.version_info >= (3, 13):
    builtins.exec = exec_in_frame
