"""What is at a path is decided by its content: layouts, checkpoints among other files, and what is neither."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from backend.importing.checkpoint import newest_name, open_checkpoint
from backend.importing.errors import ImportRefusedError
from backend.importing.recognise import PublishedAttributions, PublishedRun, recognise, step_of
from tests.importing.changing import CHECKPOINT, Changeable

Copy = Callable[..., Changeable]


@pytest.mark.parametrize(
    ("layout", "name", "read_as"),
    [
        ("A-newest", "final_config.yaml", "spd"),
        ("A-per-module", "final_config.yaml", "spd"),
        ("A-old", "final_config.yaml", "spd"),
        ("B", "run_meta.yaml", "param_decomp"),
        ("B-early", "experiment_config.yaml", "param_decomp"),
    ],
)
def test_every_layout_is_recognised_and_read_alike(
    changeable: Copy, layout: str, name: str, read_as: str
) -> None:
    run = changeable(layout=layout)
    found = recognise(run.path)
    assert isinstance(found, PublishedRun)
    assert (found.config.name, found.read.layout) == (name, read_as)
    # 900 comes after 10000 in the order of strings.
    assert (found.checkpoint.name, found.step) == (CHECKPOINT, 10_000)
    parts = open_checkpoint(found.checkpoint)
    assert {"wte.weight", "lm_head.weight", "h.0.attn.q_proj.weight"} <= set(parts.target)
    assert {"h-0-mlp-c_fc.V", "h-0-mlp-c_fc.U"} <= set(parts.components)
    assert {"h-0-mlp-c_fc.layers.0.W", "h-0-mlp-c_fc.layers.2.b"} <= set(parts.importance)
    assert not parts.other


@pytest.mark.parametrize("layout", ["A-newest", "B"])
def test_the_configuration_may_have_any_name(changeable: Copy, layout: str) -> None:
    run = changeable(layout=layout)
    run.config.rename(run.path / "settings-of-that-run.yml")
    found = recognise(run.path)
    assert isinstance(found, PublishedRun)
    assert found.config.name == "settings-of-that-run.yml"


def test_a_configuration_of_something_else_is_passed_over(changeable: Copy) -> None:
    run = changeable(layout="A-newest")
    (run.path / "run_meta.yaml").write_text("started: yesterday\n")
    (run.path / "sweep_params.yaml").write_text("lr: [1, 2]\n")
    found = recognise(run.path)
    assert isinstance(found, PublishedRun)
    assert found.read.layout == "spd"


def test_layout_b_settings_in_a_file_of_layout_a(changeable: Copy) -> None:
    run = changeable(layout="B")
    run.config.rename(run.path / "final_config.yaml")
    found = recognise(run.path)
    assert isinstance(found, PublishedRun)
    assert found.read.layout == "param_decomp"


def test_a_step_is_chosen_and_an_unknown_one_refused(changeable: Copy) -> None:
    run = changeable()
    found = recognise(run.path, 900)
    assert isinstance(found, PublishedRun)
    assert found.checkpoint.name == "model_900.pth"
    with pytest.raises(ImportRefusedError, match=r"no checkpoint of step 901; there are 900, 10,000"):
        recognise(run.path, 901)


def test_a_single_file_may_have_any_name(changeable: Copy) -> None:
    run = changeable()
    (run.path / "model_900.pth").unlink()
    (run.path / CHECKPOINT).rename(run.path / "weights-of-the-run.pt")
    # What training resumes from, and the target itself, lie beside it.
    torch.save({"optimiser": {"step": 3}}, run.path / "training_500.pth")
    torch.save({"linear1.weight": torch.zeros(2, 2)}, run.path / "tms.pth")
    found = recognise(run.path)
    assert isinstance(found, PublishedRun)
    assert (found.checkpoint.name, found.step) == ("weights-of-the-run.pt", None)


def test_a_checkpoint_or_a_configuration_stands_for_its_directory(changeable: Copy) -> None:
    run = changeable()
    for file, checkpoint in ((run.path / "model_900.pth", "model_900.pth"), (run.config, CHECKPOINT)):
        found = recognise(file)
        assert isinstance(found, PublishedRun)
        assert (found.directory, found.checkpoint.name) == (run.path, checkpoint)


def test_attribution_files_of_both_formats_are_recognised(tmp_path: Path) -> None:
    for content, name in (
        ({"regular_attr": {}, "embed_attr": {}, "unembed_attr": {}}, "four-edge.pt"),
        ({"component_layer_keys": [], "source_to_component": torch.zeros(2, 2), "vocab_size": 2}, "dense.pt"),
    ):
        torch.save(content, tmp_path / name)
        assert recognise(tmp_path / name) == PublishedAttributions(tmp_path / name)
    with pytest.raises(ImportRefusedError, match="2 files of dataset attributions; name one of them"):
        recognise(tmp_path)
    (tmp_path / "dense.pt").unlink()
    assert recognise(tmp_path) == PublishedAttributions(tmp_path / "four-edge.pt")


def test_layout_c_is_refused_with_the_way_out(changeable: Copy) -> None:
    run = changeable(layout="C")
    with pytest.raises(ImportRefusedError) as refused:
        recognise(run.path)
    assert "ckpts/1000" in refused.value.message
    assert "orbax" in refused.value.message
    assert "save the torch state dict as model_<step>.pth" in refused.value.hint


def test_a_folder_called_ckpts_is_not_enough_for_layout_c(changeable: Copy) -> None:
    run = changeable()
    (run.path / "ckpts" / "1000").mkdir(parents=True)
    assert isinstance(recognise(run.path), PublishedRun)


def test_what_is_no_decomposition_is_said_what_it_is(changeable: Copy, tmp_path: Path) -> None:
    run = changeable()
    cases: list[tuple[Path, str]] = []
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "run.json").write_text(json.dumps({"format": "tributary-run"}))
    cases.append((ours, "is a run of Tributary's already; run: tributary serve"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    cases.append((model, "is a model, not a decomposition of one; decompose it with tributary decompose"))
    cases.append((run.target, "is the training run of a target model"))
    (tmp_path / "empty").mkdir()
    cases.append((tmp_path / "empty", "is nothing that Tributary knows"))
    cases.append((tmp_path, "holds several things; name one of the runs in it: published"))
    cases.append((tmp_path / "nothing", "there is nothing at"))
    loose = tmp_path / "loose"
    loose.mkdir()
    torch.save({"wte.weight": torch.zeros(2, 2)}, loose / "model.pth")
    cases.append((loose, "has model.pth but no configuration"))
    cases.append((loose / "model.pth", "holds neither a decomposition nor dataset attributions"))
    for path, says in cases:
        with pytest.raises(ImportRefusedError) as refused:
            recognise(path)
        assert says in str(refused.value)


def test_missing_parts_of_a_run_are_named(changeable: Copy) -> None:
    run = changeable()
    run.config.rename(run.path.parent / "elsewhere.yaml")
    with pytest.raises(ImportRefusedError, match="no configuration of a decomposition beside the checkpoint"):
        recognise(run.path / CHECKPOINT)
    (run.path.parent / "elsewhere.yaml").rename(run.path / "final_config.yaml")
    for file in run.path.glob("*.pth"):
        file.unlink()
    with pytest.raises(ImportRefusedError, match=r"has no checkpoint; copy the run's model_<step>.pth"):
        recognise(run.path)
    torch.save({"a": torch.zeros(1)}, run.path / "tms.pth")
    with pytest.raises(
        ImportRefusedError, match=r"no file in .* is the checkpoint of a decomposition \(tms.pth\)"
    ):
        recognise(run.path)


class _RunsWhenLoaded:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def test_nothing_in_a_file_is_ever_run(changeable: Copy) -> None:
    run = changeable()
    torch.save({"_components.x.V": _RunsWhenLoaded()}, run.path / CHECKPOINT)
    with pytest.raises(ImportRefusedError, match="damaged, or holds more than tensors"):
        open_checkpoint(run.path / CHECKPOINT)
    run.config.write_text("!!python/object/apply:os.system ['exit 1']\n")
    with pytest.raises(ImportRefusedError, match="is not YAML that Tributary reads"):
        recognise(run.path)


def test_files_that_are_no_checkpoints_or_configurations(changeable: Copy) -> None:
    run = changeable()
    for content in (b"", b"PK\x03\x04cut", b"some text"):
        (run.path / CHECKPOINT).write_bytes(content)
        with pytest.raises(ImportRefusedError, match="damaged"):
            open_checkpoint(run.path / CHECKPOINT)
    torch.save({"_components.x.V": 3}, run.path / CHECKPOINT)
    with pytest.raises(ImportRefusedError, match=r"_components.x.V is no tensor"):
        open_checkpoint(run.path / CHECKPOINT)
    for text in ("- a list\n", "a: [\n", "1: a number\n", "{" * 4000):
        run.config.write_text(text)
        with pytest.raises(ImportRefusedError):
            recognise(run.path)


def test_a_checkpoint_in_the_format_before_zip_files_is_read(changeable: Copy) -> None:
    run = changeable()
    tensors = torch.load(run.path / CHECKPOINT, weights_only=True)
    torch.save(tensors, run.path / CHECKPOINT, _use_new_zipfile_serialization=False)
    assert set(open_checkpoint(run.path / CHECKPOINT).components)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("_gates.h-0-mlp-c_fc.layers.0.W", "ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W"),
        ("_ci_fns.h-0-mlp-c_fc.layers.0.W", "ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W"),
        ("ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W", "ci_fn._ci_fns.h-0-mlp-c_fc.layers.0.W"),
        ("ci_fn._global_ci_fn._input_projector.W", "ci_fn._global_ci_fn._input_projector.W"),
        ("patched_model.wte.weight", "target_model.wte.weight"),
        ("patched_model.h.0.mlp.c_fc.original.weight", "target_model.h.0.mlp.c_fc.weight"),
        ("target_model.h.0.mlp.c_fc.original.bias", "target_model.h.0.mlp.c_fc.bias"),
        ("patched_model.h.0.mlp.c_fc.components.U", "_components.h-0-mlp-c_fc.U"),
        ("_components.h-0-mlp-c_fc.V", "_components.h-0-mlp-c_fc.V"),
    ],
)
def test_old_names_become_the_newest(old: str, new: str) -> None:
    assert newest_name(old) == new


def test_a_name_under_its_old_and_its_new_spelling_is_refused(changeable: Copy) -> None:
    run = changeable()
    run.edit_checkpoint(lambda t: t.__setitem__("patched_model.wte.weight", t["target_model.wte.weight"]))
    with pytest.raises(ImportRefusedError, match=r"holds target_model.wte.weight twice"):
        open_checkpoint(run.path / CHECKPOINT)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("model_900.pth", 900),
        ("model.pth", None),
        ("model_v2_30000.pth", 30_000),
        ("7.pth", 7),
        ("m7.pth", None),
    ],
)
def test_steps_are_the_numbers_at_the_end_of_names(name: str, step: int | None) -> None:
    assert step_of(Path(name)) == step
