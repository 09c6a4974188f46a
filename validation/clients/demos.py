"""Upstream's notebooks, headless and offline, cell by cell, with a random model as GPT-2.

They ask for `gpt2` by name; a folder of that name in the working directory is what they get. It has
GPT-2's 12 layers of 12 heads, and SmolLM2's tokenizer, which cuts text into pieces as GPT-2's does.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from validation.clients.observations import Seen

_NAMES = ("gpt2", "openai-community/gpt2", "distilgpt2")

_FIRST = "import torch; torch.manual_seed(0); torch.set_num_threads(1)"
"""A cell before all others: stock and fork have to draw the same."""

_PASSING = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|circuits-vis-[0-9a-f-]+|/[\w./-]*/|\d+\.\d+s"
)
"""What is another in every process, and no result: addresses, ids of plots, paths, times."""

_TIMEOUT_SECONDS = 900


def exercise_path_patching(seen: Seen, folder: Path) -> None:
    """HookedTransformer with processed weights, patched head by head."""
    _make_gpt2(folder)
    _run(seen, folder, "direct_path_patching_ioi")


def exercise_main(seen: Seen, folder: Path) -> None:
    """The tour through the library, mostly on TransformerBridge."""
    _make_gpt2(folder)
    _run(seen, folder, "Main_Demo")


def exercise_no_position(seen: Seen, folder: Path) -> None:
    """A HookedTransformer trained from nothing and taken apart."""
    _run(seen, folder, "No_Position_Experiment", {"num_epochs = 4000": "num_epochs = 40"})


def _run(seen: Seen, folder: Path, name: str, changes: dict[str, str] | None = None) -> None:
    """Runs every cell, also after one that raises, and sees what each put out."""
    import nbformat
    import transformer_lens
    from nbclient import NotebookClient

    package = Path(transformer_lens.__file__).resolve().parent
    notebook = nbformat.read(package.parent / "demos" / f"{name}.ipynb", as_version=4)
    for old, new in (changes or {}).items():
        cells = [cell for cell in notebook.cells if old in cell.source]
        assert len(cells) == 1, f"{old!r} is in {len(cells)} cells"
        cells[0].source = cells[0].source.replace(old, new)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_FIRST))
    _set_variables(folder, package)
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT_SECONDS,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    raised = [error for cell in cells if (error := _error(cell))]
    for number, cell in enumerate(cells):
        seen.value(f"cell {number}", "\n".join(_outputs(cell)))
    seen.figure("cells", len(cells))
    seen.figure("cells that raise", len(raised))
    for error in raised:
        seen.value(f"raised: {_PASSING.sub('', error)[:160]}", error.partition(":")[0])


def _set_variables(folder: Path, package: Path) -> None:
    """The kernel imports the tree, and nothing else that lies beside it; as upstream's CI runs."""
    beside = folder / "tree"
    beside.mkdir()
    (beside / package.name).symlink_to(package)
    os.environ |= {"PYTHONPATH": str(beside), "GITHUB_ACTIONS": "true", "IPYTHONDIR": str(folder)}


def _outputs(cell: Any) -> list[str]:
    streams = (output for output in cell.outputs if output.output_type == "stream")
    # One text: in how many pieces a kernel sends what is printed is a matter of time.
    found = ["".join(stream.text for stream in streams if stream.name == "stdout")]
    for output in cell.outputs:
        if output.output_type in ("display_data", "execute_result"):
            found += [str(output.data[kind]) for kind in sorted(output.data)]
        elif output.output_type == "error":
            found.append(f"{output.ename}: {output.evalue}")
    return [_PASSING.sub("", text) for text in found]


def _error(cell: Any) -> str | None:
    errors = [output for output in cell.outputs if output.output_type == "error"]
    return f"{errors[0].ename}: {errors[0].evalue}" if errors else None


def _make_gpt2(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from validation.models.checkpoints import resolve_checkpoint

    # Heads of 16 dimensions: scores divided by 4 have the bits of scores multiplied by 1/4.
    torch.manual_seed(0)
    sizes = {"vocab_size": 49152, "n_embd": 192, "n_layer": 12, "n_head": 12}
    # `n_ctx` is in GPT-2's own file, and the release reads it there.
    model = GPT2LMHeadModel(GPT2Config(**sizes, n_ctx=1024))
    tokenizer = resolve_checkpoint("smollm2", print).path
    for name in _NAMES:
        model.save_pretrained(folder / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tokenizer / file, folder / name / file)
