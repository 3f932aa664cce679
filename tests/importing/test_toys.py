"""Published toy runs: the reloaded model gives the numbers of the one that wrote them; every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from backend.importing.errors import ImportRefusedError
from backend.importing.options import ImportedRun, ImportOptions
from backend.importing.run import import_run
from backend.pipelines.load import load_decomposition
from backend.pipelines.load_toy import load_toy
from compute.address import Address, parse_address
from compute.toys.config import read_config
from compute.toys.decomposition import ToyDecomposition
from compute.toys.response import answer
from storage.errors import NoModelError
from storage.run_directory import RunDirectory
from tests.support.public import PublicToyRun, write_public_toy

TOLERANCE = 1e-5


def imported(tmp_path: Path, **options: Any) -> tuple[PublicToyRun, ImportedRun, RunDirectory]:
    public = write_public_toy(tmp_path / "source", **options)
    result = import_run(public.directory, ImportOptions(runs=tmp_path / "runs", name="toy"))
    return public, result, RunDirectory.open(result.path)


def by_address(run: RunDirectory, by_path: Mapping[str, Tensor]) -> dict[Address, Tensor]:
    addresses = {str(site.source_path): parse_address(site.address) for site in run.info.sites}
    assert set(addresses) == set(by_path)
    return {addresses[path]: value for path, value in by_path.items()}


def compare(public: PublicToyRun, run: RunDirectory) -> ToyDecomposition:
    """Outputs, importances and masked outputs of the reloaded model against the writer's."""
    toy = load_toy(run)
    found = answer(toy, public.inputs)
    close = {"rtol": TOLERANCE, "atol": TOLERANCE}
    torch.testing.assert_close(found.outputs, public.outputs(), **close)
    importance = public.importance()
    for site, expected in by_address(run, importance).items():
        torch.testing.assert_close(found.importance[site], expected, **close)
    torch.testing.assert_close(found.masked, public.masked_outputs(importance), **close)
    generator = torch.Generator().manual_seed(7)
    masks = {path: torch.rand(ci.shape, generator=generator) for path, ci in importance.items()}
    deltas = {path: torch.rand(len(ci), generator=generator) for path, ci in importance.items()}
    ours = by_address(run, masks), {site: d[:, None] for site, d in by_address(run, deltas).items()}
    torch.testing.assert_close(
        toy.target(public.inputs, toy.site_function(*ours)), public.masked_outputs(masks, deltas), **close
    )
    return toy


KINDS = ("mlp", "vector_mlp", "shared_mlp", "global_shared_mlp", "global_shared_transformer")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["tms", "resid_mlp"])
def test_a_reloaded_toy_gives_the_writers_numbers(tmp_path: Path, task: str, kind: str) -> None:
    public, result, run = imported(tmp_path, task=task, importance=kind)
    compare(public, run)
    assert run.info.kind == "toy"
    assert run.info.tokenizer is None
    assert {note.topic for note in result.notes} <= {"ignored_settings"}
    assert {f.name: f.value for f in result.found}["checkpoint"] == "model_10000.pth, step 10,000"


@pytest.mark.parametrize("layout", ["A-per-module", "A-old"])
@pytest.mark.parametrize("task", ["tms", "resid_mlp"])
def test_older_layouts(tmp_path: Path, task: str, layout: str) -> None:
    public, _, run = imported(tmp_path, task=task, layout=layout)
    compare(public, run)


@pytest.mark.parametrize("sigmoid", ["hard", "normal", "swish_hard", "upper_leaky_hard"])
def test_sigmoids(tmp_path: Path, sigmoid: str) -> None:
    public, _, run = imported(tmp_path, sigmoid=sigmoid)
    compare(public, run)


@pytest.mark.parametrize(
    ("task", "model", "sites"),
    [
        ("tms", {"n_hidden_layers": 0}, None),
        ("tms", {"n_hidden_layers": 3, "n_hidden": 2}, {"linear*": 4, "hidden_layers.*": 3}),
        ("tms", {"tied_weights": True}, None),
        ("resid_mlp", {"act_fn_name": "relu", "in_bias": False, "out_bias": False, "n_layers": 1}, None),
        ("resid_mlp", {"n_layers": 3}, {"layers.*.mlp_in": 5}),
        ("tms", {}, {"linear1": 5}),
    ],
)
def test_every_shape(tmp_path: Path, task: str, model: dict[str, Any], sites: dict[str, int] | None) -> None:
    public, result, run = imported(tmp_path, task=task, model=model, sites=sites)
    toy = compare(public, run)
    addresses = [site.parsed for site in run.info.sites]
    assert addresses == list(toy.n_components)  # in forward order
    if sites is not None and len(sites) == 1:
        (whole,) = (note.text for note in result.notes if note.topic == "left_whole")
        assert ("linear2" if task == "tms" else "layers.2.mlp_out") in whole
    if model.get("tied_weights"):
        assert read_config(run.info.target).model_dump()["tied"] is True


@pytest.mark.parametrize("task", ["tms", "resid_mlp"])
@pytest.mark.parametrize("nested", [False, True])
def test_both_forms_of_the_training_configuration(tmp_path: Path, task: str, nested: bool) -> None:
    public, _, run = imported(tmp_path, task=task, nested_train_config=nested)
    compare(public, run)
    config = read_config(run.info.target)
    assert config.data is not None
    assert (config.data.feature_probability, config.data.high) == (0.05, 1.0)
    assert config.data.low == (0.0 if task == "tms" else -1.0)


def test_the_known_solution_is_what_the_run_itself_expects(tmp_path: Path) -> None:
    metric = {
        "classname": "IdentityCIError",
        "identity_ci": [{"layer_pattern": "linear1", "n_features": 5}],
        "dense_ci": [{"layer_pattern": "hidden_layers.*", "k": 3}, {"layer_pattern": "linear2", "k": 99}],
    }
    _, result, run = imported(tmp_path, extra_config={"eval_metric_configs": [metric]})
    expected = read_config(run.info.target).expected
    assert [(e.address, e.pattern, e.k) for e in expected] == [
        ("0.mlp.up", "identity", 5),
        ("1.mlp.up", "dense", 3),
    ]
    assert "eval_metric_configs" not in result.ignored_settings
    assert "task_config.feature_probability" not in result.ignored_settings


def test_without_saying_so_the_known_solution_is_that_of_the_public_runs(tmp_path: Path) -> None:
    _, _, run = imported(tmp_path, task="resid_mlp", sites={"layers.*.mlp_in": 7, "layers.*.mlp_out": 12})
    expected = read_config(run.info.target).expected
    assert [(e.address, e.pattern, e.k) for e in expected] == [
        ("0.mlp.up", "identity", 6), ("0.mlp.down", "dense", 10),
        ("1.mlp.up", "identity", 6), ("1.mlp.down", "dense", 10),
    ]  # fmt: skip


def test_labels_come_with_their_coefficients_or_are_missed(tmp_path: Path) -> None:
    public = write_public_toy(tmp_path / "source", task="resid_mlp")
    coefficients = [1.0, 1.5, 2.0, 1.25, 1.75, 1.1]
    (public.directory / "label_coeffs.json").write_text(json.dumps(coefficients))
    result = import_run(public.directory, ImportOptions(runs=tmp_path, name="with"))
    assert result.warnings == ()
    label = load_toy(RunDirectory.open(result.path)).target.label(torch.ones(1, 6))
    assert label is not None
    gelu = torch.nn.functional.gelu(torch.tensor(coefficients))
    torch.testing.assert_close(label[0], gelu + 1)
    (public.directory / "label_coeffs.json").unlink()
    result = import_run(public.directory, ImportOptions(runs=tmp_path, name="without"))
    assert "label_coeffs.json" in result.warnings[0]
    assert load_toy(RunDirectory.open(result.path)).target.label(torch.ones(1, 6)) is None


def test_a_checkpoint_of_learned_weights_takes_the_targets_from_beside_it(tmp_path: Path) -> None:
    public = write_public_toy(tmp_path / "source")
    learned = {k: v for k, v in public.tensors.items() if not k.startswith("target_model.")}
    torch.save(learned, public.directory / "model_10000.pth")
    result = import_run(public.directory, ImportOptions(runs=tmp_path, name="toy"))
    compare(public, RunDirectory.open(result.path))
    (public.directory / "tms.pth").unlink()
    with pytest.raises(ImportRefusedError, match="learned weights only"):
        import_run(public.directory, ImportOptions(runs=tmp_path, name="again"))


@pytest.mark.parametrize("task", ["tms", "resid_mlp"])
@pytest.mark.parametrize("learned_only", [False, True])
def test_layout_b_takes_the_target_from_where_it_was_trained(
    tmp_path: Path, task: str, learned_only: bool
) -> None:
    public = write_public_toy(tmp_path / "source", task=task)
    trained = tmp_path / "trained"
    trained.mkdir()
    for name in (f"{task}_train_config.yaml", f"{task}.pth", "label_coeffs.json"):
        if (public.directory / name).is_file():
            (public.directory / name).rename(trained / name)
    if learned_only:
        learned = {k: v for k, v in public.tensors.items() if not k.startswith("target_model.")}
        torch.save(learned, public.directory / "model_10000.pth")
    old = yaml.safe_load((public.directory / "final_config.yaml").read_text())
    (public.directory / "final_config.yaml").unlink()
    pattern = "linear1" if task == "tms" else "layers.*.mlp_in"
    meta = {
        "pd": {"decomposition_targets": old["module_info"], "ci_config": old["ci_config"], "seed": 0},
        "target": {"run_path": str(trained)},
        "data": {"feature_probability": 0.2, "data_generation_type": "exactly_one_active"},
        "eval": {
            "every": 9,
            "metrics": [{"type": "IdentityCIError", "dense_ci": [{"layer_pattern": pattern, "k": 2}]}],
        },
    }
    (public.directory / "run_meta.yaml").write_text(yaml.safe_dump(meta))
    result = import_run(public.directory, ImportOptions(runs=tmp_path, name="toy"))
    run = RunDirectory.open(result.path)
    compare(public, run)
    config = read_config(run.info.target)
    assert config.data is not None
    assert (config.data.feature_probability, config.data.generation) == (0.2, "exactly_one_active")
    assert {(e.pattern, e.k) for e in config.expected} == {("dense", 2)}
    # Given by hand where the run names a place that is not here.
    meta["target"] = {"run_path": "someone/project/runs/abc"}
    (public.directory / "run_meta.yaml").write_text(yaml.safe_dump(meta))
    with pytest.raises(ImportRefusedError, match="is not there"):
        import_run(public.directory, ImportOptions(runs=tmp_path, name="again"))
    compare(
        public,
        RunDirectory.open(
            import_run(public.directory, ImportOptions(runs=tmp_path, name="again", target=trained)).path
        ),
    )


def test_identities_are_refused_by_name_and_can_be_left_whole(tmp_path: Path) -> None:
    public = write_public_toy(tmp_path / "source", identities={"linear1": 4})
    options = ImportOptions(runs=tmp_path, name="toy")
    with pytest.raises(ImportRefusedError, match=r"inserted identities \(linear1\.pre_identity\)") as refused:
        import_run(public.directory, options)
    assert "--leave-whole '*.pre_identity'" in refused.value.hint
    assert not (tmp_path / "toy").exists()
    result = import_run(public.directory, replace(options, leave_whole=("*.pre_identity",)))
    toy = load_toy(RunDirectory.open(result.path))
    torch.testing.assert_close(answer(toy, public.inputs).outputs, public.outputs())
    assert any("linear1.pre_identity" in note.text for note in result.notes)


def test_a_toy_run_is_no_language_model(tmp_path: Path) -> None:
    _, _, run = imported(tmp_path)
    with pytest.raises(NoModelError):
        load_decomposition(run)
    assert all(check.error is None for check in run.verify())


def edited(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        content = yaml.safe_load((directory / name).read_text())
        change(content)
        (directory / name).write_text(yaml.safe_dump(content))

    return edit


@pytest.mark.parametrize(
    ("task", "damage", "message"),
    [
        ("tms", lambda d: (d / "tms_train_config.yaml").unlink(), "TMSModel) is not there"),
        ("tms", edited("tms_train_config.yaml", lambda c: c.pop("n_hidden")), "n_hidden: Field required"),
        ("tms", edited("tms_train_config.yaml", lambda c: c.update(n_hidden=4)), "does not fit its configuration"),
        ("tms", edited("tms_train_config.yaml", lambda c: c.update(n_features=0)), "n_features: Input should be"),
        ("tms", edited("tms_train_config.yaml", lambda c: c.update(n_hidden_layers=0)), "matches no module"),
        ("tms", edited("final_config.yaml", lambda c: c.update(pretrained_model_class="a.b.Other")), "does not know"),
        (
            "tms",
            edited("final_config.yaml", lambda c: c["task_config"].update(feature_probability=3)),
            "inputs: feature_probability",
        ),
        (
            "tms",
            edited("final_config.yaml", lambda c: c["task_config"].update(data_generation_type="all")),
            "inputs: generation",
        ),
        (
            "resid_mlp",
            edited("resid_mlp_train_config.yaml", lambda c: c["resid_mlp_model_config"].update(act_fn_name="tanh")),
            "act_fn_name: Input should be 'gelu' or 'relu'",
        ),
        ("resid_mlp", lambda d: (d / "label_coeffs.json").write_text("[1, 2]"), "2 label coefficients for 6 features"),
        ("resid_mlp", lambda d: (d / "label_coeffs.json").write_text('{"a": 1}'), "not a list of numbers"),
        ("resid_mlp", lambda d: (d / "label_coeffs.json").write_text("[1,"), "cannot be read"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    tmp_path: Path, task: str, damage: Callable[[Path], None], message: str
) -> None:
    public = write_public_toy(tmp_path / "source", task=task)
    damage(public.directory)
    with pytest.raises(ImportRefusedError) as refused:
        import_run(public.directory, ImportOptions(runs=tmp_path, name="toy"))
    assert message in refused.value.message
    assert refused.value.hint
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("options", [{"text": (Path("a.txt"),)}, {"tokenizer": Path("tokenizer.json")}])
def test_text_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    public = write_public_toy(tmp_path / "source")
    with pytest.raises(ImportRefusedError, match="reads features, not tokens"):
        import_run(public.directory, ImportOptions(runs=tmp_path, name="toy", **options))


def test_the_training_configuration_can_be_given(tmp_path: Path) -> None:
    public = write_public_toy(tmp_path / "source")
    moved = (public.directory / "tms_train_config.yaml").rename(tmp_path / "elsewhere.yaml")
    options = ImportOptions(runs=tmp_path, name="toy", target=moved)
    compare(public, RunDirectory.open(import_run(public.directory, options).path))
    with pytest.raises(ImportRefusedError, match="there is nothing at"):
        import_run(public.directory, replace(options, name="again", target=tmp_path / "nowhere"))
