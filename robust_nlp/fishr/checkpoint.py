"""What an objective remembers, in the folder of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from robust_nlp.errors import RunMismatchError
from robust_nlp.fishr.state import ObjectiveState

#: File in the folder of a checkpoint.
FILE = "domain_state.safetensors"


def save_state(folder: Path, state: ObjectiveState, objective: dict[str, Any]) -> None:
    """Write the state of an objective: tensors, and all else as JSON.

    Args:
        folder: Folder of the checkpoint; it is made if it is missing.
        state: The state.
        objective: The settings of the objective, as plain values.
    """
    tensors: dict[str, torch.Tensor] = {}

    def without_tensors(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.contiguous()
            return {"tensor": name}
        if isinstance(value, dict):
            return {key: without_tensors(entry) for key, entry in value.items()}
        return value

    plain = {"state": without_tensors(state.state_dict()), "objective": objective}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, metadata={"robust_nlp": json.dumps(plain)})


def load_state(folder: Path, objective: dict[str, Any]) -> ObjectiveState:
    """Read the state of an objective.

    Raises:
        RunMismatchError: If the checkpoint has none, or that of another objective.
    """
    if not (folder / FILE).is_file():
        raise RunMismatchError(
            f"{folder} has no {FILE}: it is no checkpoint of a FishrTrainer, or was copied in "
            "part. To go on from its weights alone, load them as the model of a new training"
        )
    with safe_open(folder / FILE, framework="pt") as file:
        plain = json.loads(file.metadata()["robust_nlp"])

        def with_tensors(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            if value.keys() == {"tensor"} and isinstance(value["tensor"], str):
                return file.get_tensor(value["tensor"])
            return {key: with_tensors(entry) for key, entry in value.items()}

        saved = with_tensors(plain["state"])
    if plain["objective"] != objective:
        raise RunMismatchError(
            f"{folder} was made with objective={plain['objective']}, this training has "
            f"objective={objective}. Resume with that of the checkpoint"
        )
    state = ObjectiveState()
    state.load_state_dict(saved)
    return state
