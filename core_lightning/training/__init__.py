"""The parts of a training step that need Lightning or a process group: team, update, checkpoints, checks."""
