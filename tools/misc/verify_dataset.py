"""Find missing and broken videos (and images) before a training does.

Every file of a list, or of a folder, is decoded, in parallel, by the reader that trains. --out
writes the list again without the bad ones, --report what is wrong with each. The exit status is 1
where something is wrong.
"""

import argparse
import os
import sys
from pathlib import Path

from mmengine.utils import ProgressBar

from bimm_mm.datasets.verify import TIMEOUT, list_files, report_of, verify
from bimm_mm.utils.files import printable, write_text
from bimm_mm.utils.lists import read_list
from bimm_mm.video.reader import BACKENDS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of the files; paths in the list are relative to it')
    parser.add_argument(
        '--ann-file', help='list, `path label` per line; default: all in the folder'
    )
    parser.add_argument(
        '--delimiter',
        help='what ends the path; by default, the last ending of a video or image does',
    )
    parser.add_argument(
        '--backend', choices=BACKENDS, help='decoder of the videos; default: as in training'
    )
    parser.add_argument(
        '--timeout', type=float, default=TIMEOUT, help='seconds that one video may take'
    )
    parser.add_argument('--out', help='write the list of good files here')
    parser.add_argument('--report', help='write a JSON file with the problem of each bad file here')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='processes; default: one per core'
    )
    parser.add_argument(
        '--quick', action='store_true', help='decode the first frame only; misses truncated files'
    )
    args = parser.parse_args()
    try:
        if args.ann_file:
            entries = read_list(args.ann_file, args.delimiter)
        else:
            entries = list_files(args.folder)
        bar = ProgressBar(len(entries), file=sys.stderr)
        names = list(entries.paths())
        paths = [Path(args.folder) / name for name in names]
        settings = dict(backend=args.backend, timeout=args.timeout)
        problems = list(verify(paths, args.workers, args.quick, bar.update, **settings))
        bar.file.write('\n')
        if args.out:
            good = [entry.line for entry, why in zip(entries, problems, strict=True) if not why]
            write_text(args.out, ''.join(f'{line}\n' for line in good))
        if args.report:
            write_text(args.report, report_of(names, problems))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(str(error))
    bad = [(name, why) for name, why in zip(names, problems, strict=True) if why is not None]
    for name, why in bad[:20]:
        print(f'{printable(name)}: {why}')
    if len(bad) > 20:
        print(f'and {len(bad) - 20} more; --report lists all')
    print(f'{len(names) - len(bad)} of {len(names)} files are good')
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
