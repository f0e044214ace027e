"""Compare the files of a wheel with what the checkout says must be in it: usage wheel_contents.py WHEEL."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {".py", ".pyi", ".pxd", ".h", ".typed"}


def expected() -> set[str]:
    """Sources and declarations under margincore/, and one compiled module per kernel, without the suffix."""
    package = ROOT / "margincore"
    names = {path.relative_to(ROOT).as_posix() for path in package.rglob("*")
             if path.is_file() and (path.suffix in KINDS or path.name == "py.typed")}
    names |= {f"margincore/kernels/{path.stem}" for path in (ROOT / "src").glob("*.pyx")}
    return names | {"margincore/kernels/_cyutility"}


def found(wheel: str) -> tuple[set[str], list[str]]:
    """Names in the wheel, compiled modules without their suffix; and those of the wider instruction sets."""
    base, wider = set(), []
    for name in zipfile.ZipFile(wheel).namelist():
        if ".dist-info/" in name:
            continue
        if name.endswith((".so", ".pyd")):
            name = name.split(".", 1)[0]
            if name.startswith(("margincore/kernels/v3/", "margincore/kernels/v4/")):
                wider.append(name)
                continue
        base.add(name)
    return base, wider


def main(wheel: str) -> int:
    base, wider = found(wheel)
    due = expected()
    stems = {path.stem for path in (ROOT / "src").glob("*.pyx")}
    strangers = {name for name in wider if name.rpartition("/")[2] not in stems}
    for word, names in (("missing", due - base), ("unexpected", base - due), ("unknown", strangers)):
        for name in sorted(names):
            print(f"{word}: {name}")
    if due != base or strangers:
        return 1
    print(f"{len(base)} files as expected, {len(wider)} modules for wider instruction sets")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
