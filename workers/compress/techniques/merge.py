"""An adapter becomes part of the weights that it was trained beside."""

from pathlib import Path

from peft import PeftModel

from workers.compress.techniques.folders import begin_with, load, save
from workers.compress.techniques.program import run
from workers.compress.told import Task, Teller


def merge(task: Task, _teller: Teller) -> dict[str, float]:
    begin_with(task)
    model = PeftModel.from_pretrained(load(task.source), Path(task.options["adapter_folder"]))
    save(model.merge_and_unload(), task)
    return {}


if __name__ == "__main__":
    run(merge)
