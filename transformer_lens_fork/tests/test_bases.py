"""The pins are read, and refused with the field, the value and what is accepted."""

from pathlib import Path

import pytest

from transformer_lens_fork.bases import PINS, get_base, load_bases
from transformer_lens_fork.errors import InputError

GOOD = """
["v1.0"]
version = "1.0"
sdist_sha256 = "{sha}"
base_commit = "{commit}"
commit_date = 2024-01-01T00:00:00Z
transformers = ">=4,<5"
why = "a test"
loads_checkpoints = false
allowed = ["a/*.py", "tests/**"]
""".format(sha="a" * 64, commit="b" * 40)


def write(folder: Path, text: str) -> Path:
    """Writes a file of pins."""
    pins = folder / "bases.toml"
    pins.write_text(text, encoding="utf-8")
    return pins


def test_real_pins_name_every_base() -> None:
    """The file in the package is valid, and v3.9.0 alone loads checkpoints."""
    assert {name: base.loads_checkpoints for name, base in load_bases().items()} == {
        "v3.9.0": True,
        "v2.8.0": False,
        "v4.3.0": False,
    }


def test_unknown_base_lists_the_known() -> None:
    """A typo is answered with what there is."""
    with pytest.raises(
        InputError, match=r"BASE is 'v3\.9'; accepted are v3\.9\.0, v2\.8\.0, v4\.3\.0\."
    ):
        get_base("v3.9")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('version = "1.0"\n', "", r"v1\.0\.version is missing"),
        ("b" * 40, "main", r"v1\.0\.base_commit is 'main': .*\[0-9a-f\]\{40\}"),
        ("why =", "reason =", r"v1\.0\.reason is 'a test': the fields are version, .*why"),
        (">=4,<5", "4 or so", r"v1\.0\.transformers is '4 or so': a version range such as"),
        ("= false", '= "yes"', r"v1\.0\.loads_checkpoints is 'yes': .*boolean"),
        ('version = "1.0"', 'version = "2.0"', r"'2\.0' belongs under the name 'v2\.0'"),
        ('["v1.0"]', '["../v1.0"]', r"\.\./v1\.0\.name is '\.\./v1\.0'"),
        ("T00:00:00Z", "T00:00:00", r"commit_date is .*timezone"),
        ("why =", 'extra_requirements = ["a b"]\nwhy =', r"'a b' is not a requirement such as"),
        ('["a/*.py", "tests/**"]', "[]", r"v1\.0\.allowed is \[\]: .*at least 1 item"),
        ("why =", "type_checked = []\nwhy =", r"v1\.0\.type_checked is \[\]: .*at least 1 item"),
        ("\n[", "name = 3\n[", r"name is 3; a table for one base is accepted"),
        ("version", "version version", "is not TOML"),
    ],
)
def test_bad_pin_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    """Every mistake is one sentence that names the field and its value."""
    with pytest.raises(InputError, match=says):
        load_bases(write(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("a/b.py", True),
        ("a/b/c.py", False),
        ("a/bxpy", False),
        ("tests/unit/deep/test_x.py", True),
        ("tests", False),
        ("b/tests/x.py", False),
    ],
)
def test_one_star_stays_in_its_folder(tmp_path: Path, path: str, allowed: bool) -> None:
    """`*` does not cross a slash, `**` does."""
    (base,) = load_bases(write(tmp_path, GOOD)).values()
    assert base.allows(path) is allowed


def test_pins_hold_no_placeholder() -> None:
    """Every hash in the file is a real one."""
    assert "0" * 40 not in PINS.read_text(encoding="utf-8")
