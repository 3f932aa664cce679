"""The identities hold on every kind of model, and notice when something is wrong."""

from __future__ import annotations

import pytest
import torch

from compute.attribution.identities import check_identities
from compute.attribution.norm import NormOperation
from tests.compute.attribution.models import Case


@pytest.mark.parametrize(
    "case",
    [
        Case(n_blocks=3, n_heads=4, n_kv_heads=2),
        Case(family="gpt2", activation="gelu", n_kv_heads=2),
        Case(qk_norm=True),
        Case(dtype=torch.float32),
    ],
)
def test_identities_hold(case: Case):
    decomposition, tokens = case.build()
    for check in check_identities(decomposition, tokens):
        assert check.holds, check


def test_a_wrong_closed_form_is_noticed(monkeypatch: pytest.MonkeyPatch):
    decomposition, tokens = Case().build()
    monkeypatch.setattr(NormOperation, "scaled_U", property(lambda self: self.U * 1.001))
    broken = {check.name for check in check_identities(decomposition, tokens) if not check.holds}
    assert "scale-free norm" in broken
    assert "definition, attr" in broken
