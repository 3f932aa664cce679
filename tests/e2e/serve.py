"""Serve the bundled run, or a toy run where there is none, on a given port: ``serve.py PORT FOLDER [KIND]``.

KIND ``clustered`` is a toy run whose components are clustered, ``evidence`` one that was harvested;
``imported`` are three: ``partial`` as the public code writes one, with text, published attributions and ours,
``alone``, its attributions without the model, and ``bare``, without text and tokenizer; ``toys`` are two
decomposed models of features, ``tms`` and ``mlp``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main(port: str, folder: Path, kind: str = "") -> None:
    """Replace this process by the real command, as a user would start it."""
    if kind == "clustered":
        run = make_clustered(folder)
    elif kind == "evidence":
        run = make_harvested(folder)
    elif kind == "imported":
        run = None
        make_imported(folder)
    elif kind == "toys":
        run = None
        make_toys(folder)
    elif (ROOT / "demo" / "run" / "run.json").exists():
        run = "demo"
    else:
        from tests.support.tiny_run import make_tiny_run

        run = "tiny"
        if not (folder / run / "run.json").exists():
            make_tiny_run(folder / run, n_blocks=2, n_components=40)
    os.chdir(ROOT)
    runs = [] if run is None else [run]
    command = [sys.executable, "-m", "backend.cli", "serve", *runs, "--runs", str(folder), "--port", port]
    os.execv(sys.executable, command)


def make_harvested(folder: Path) -> str:
    """A toy run with a harvest, made once; its name."""
    from tests.support.tiny_run import make_tiny_run

    path = folder / "tiny-evidence"
    if not (path / "run.json").exists():
        make_tiny_run(path, n_blocks=1, n_components=8, harvest=True)
    return path.name


def make_imported(folder: Path) -> None:
    """Runs as imports leave them, made once."""
    from backend.importing.options import ImportOptions
    from backend.importing.run import import_run
    from backend.pipelines.load import load_decomposition
    from storage.run_directory import RunDirectory
    from tests.support.public.attribution_files import write_four_edge
    from tests.support.public.run import write_public_run
    from tests.support.tiny_run import TEXT, make_tiny_run, write_real_attributions

    if (folder / "bare" / "run.json").exists():
        return
    source = folder / ".published"
    source.mkdir()
    (source / "text.txt").write_text(f"{TEXT} " * 60, encoding="utf-8")
    published = write_public_run(
        source / "s-0123",
        family="GPT2",
        importance="global_shared_transformer",
        sampling="binomial",
        sites={"h_torch.*.attn.c_attn": 9, "h_torch.1.mlp.c_proj": 12},
    )
    tokenizer = published.target_directory
    import_run(
        published.directory,
        ImportOptions(runs=folder, name="partial", tokenizer=tokenizer, text=(source / "text.txt",)),
    )
    run = RunDirectory.open(folder / "partial")
    write_four_edge(source / "attributions.pt", published)
    import_run(source / "attributions.pt", ImportOptions(runs=folder, into="partial"))
    write_real_attributions(run, load_decomposition(run))
    import_run(source / "attributions.pt", ImportOptions(runs=folder, name="alone", tokenizer=tokenizer))
    make_tiny_run(folder / "bare", n_blocks=1, text=False, words=False)


def make_toys(folder: Path) -> None:
    """Toy models whose solution is known, made once."""
    from tests.support.toy_run import solved_mlp, solved_tms, write_toy_run

    for name, toy in (
        ("tms", solved_tms(n_components=20)),
        ("mlp", solved_mlp(n_features=40, n_components=60)),
    ):
        if not (folder / name / "run.json").exists():
            write_toy_run(folder / name, toy)


def make_clustered(folder: Path) -> str:
    """A toy run with clusters, made once; its name."""
    from backend.pipelines import cluster
    from storage.run_directory import RunDirectory
    from tests.support.tiny_run import make_tiny_run

    path = folder / "clustered"
    if not (path / "run.json").exists():
        make_tiny_run(path, n_blocks=2, n_components=20)
    if not RunDirectory.open(path).clustering_subruns():
        # Components that are rarely active are left out, so that some are unknown.
        cluster.command(str(path), positions=1500, threshold=0.2, least=300)
    return path.name


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
