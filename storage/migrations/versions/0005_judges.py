"""Who judges the labels of a set. Until now it was the model that wrote them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("judge_model", "judge_endpoint"):
        op.add_column("label_sets", sa.Column(name, sa.Text, nullable=False, server_default=sa.text("''")))
    # A set whose labels were never asked about has no judge yet.
    op.execute(
        "update label_sets set"
        " judge_model = coalesce(json_extract(settings, '$.model'), ''),"
        " judge_endpoint = coalesce(json_extract(settings, '$.endpoint'), '')"
        " where exists (select 1 from label_trials where label_trials.set_id = label_sets.id)"
    )
