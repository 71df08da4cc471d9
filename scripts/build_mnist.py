"""Builds the bundled MNIST file from the four original IDX files.

The result is the same byte for byte wherever Python is linked with the usual zlib: the members have
a fixed order and date. Other implementations of zlib compress to other bytes of the same arrays.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data import idx, mnist

BUNDLED = Path(mnist.__file__).with_name("mnist.npz")
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can state


def read_originals(folder: Path) -> dict[str, np.ndarray]:
    """Reads the IDX files, plain or with the extension .gz, and checks that they are MNIST.

    Args:
        folder: folder of the files, with their original names.

    Returns:
        The arrays by their names in the bundled file.

    Raises:
        InputError: if a file is missing, damaged, or not the original.
    """
    arrays = {}
    for member, (name, md5) in mnist.ORIGINALS.items():
        paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if not paths:
            raise InputError("IDX_DIR", f"a folder with {name} or {name}.gz", str(folder))
        arrays[member] = idx.read(paths[0])
        found = hashlib.md5(idx.encode(arrays[member])).hexdigest()
        if found != md5:
            raise InputError(str(paths[0]), f"MNIST's file, whose content has md5 {md5}", found)
    return arrays


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """Packs arrays into a .npz file whose bytes depend only on the arrays.

    Args:
        arrays: by name, in the order of the members.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", _DATE)
            member.create_system = 3  # always Unix, so that the bytes do not depend on the platform
            member.external_attr = 0o600 << 16
            archive.writestr(member, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return packed.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(
        description="Build the included MNIST file of jaxnets from the four original IDX files.",
        epilog="Files: " + ", ".join(name for name, _ in mnist.ORIGINALS.values()),
    )
    parser.add_argument(
        "idx_dir",
        metavar="IDX_DIR",
        type=Path,
        help="folder with the four files, plain or with the extension .gz",
    )
    parser.add_argument(
        "--out", type=Path, default=BUNDLED, help="file to write (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        options.out.write_bytes(pack(read_originals(options.idx_dir)))
    except (InputError, OSError) as error:
        sys.exit(f"{parser.prog}: error: {error}")
    print(f"wrote {options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
