"""Put two label sets into the database of a served folder: ``label_sets.py FOLDER RUN KEY [KEY …]``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from backend.service.library import open_run  # noqa: E402 (the path comes first)
from storage.graphs import GraphDatabase  # noqa: E402
from storage.label_records import Item, Judge, Trial  # noqa: E402
from storage.run_directory import resolve_run  # noqa: E402


def main(folder: Path, name: str, keys: list[str]) -> None:
    run = open_run(name, resolve_run(name, folder).path)
    database = GraphDatabase(folder / "tributary.sqlite3")
    sets = database.label_sets
    for title, strategy, stage in (("first set", "evidence", "evidence"), ("second set", "context", "unify")):
        settings = {"endpoint": "http://127.0.0.1:9/v1", "model": "toy", "examples": 12, "prompts": "1"}
        ident = sets.open_set(run.name, run.digest, title, strategy, settings)[0].id
        sets.judge_by(ident, Judge("toy" if strategy == "evidence" else "better", str(settings["endpoint"])))
        sets.add_items(ident, stage, keys)
        for place, key in enumerate(keys[:-1]):
            label = f"{title}: words like number {place}"
            answer = {"reasoning": "The texts say so.", "label": label, "confidence": "medium"}
            sets.save_item(ident, Item(stage, key, "done", label, answer, {"examples": []}, ""))
            hits = 5 if strategy == "evidence" else 3
            sets.save_trial(ident, Trial(key, "detection", 0, "done", label, 5, 5, hits, 4, {"chosen": [1]}))
            sets.save_trial(ident, Trial(key, "fuzzing", 0, "impossible", label, error="no more texts"))
            messages = [{"role": "user", "content": f"What is {key} about?"}]
            attempt = sets.begin_attempt(ident, stage, key, messages, (500, 50), 0.0)
            sets.finish_attempt(attempt, "answered", answer='{"label": "…"}', tokens=(90, 9), counted=True)
        sets.save_item(ident, Item(stage, keys[-1], "failed", "", {}, {}, "no answer within 120 s"))
        sets.end(ident, "finished")
    database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
