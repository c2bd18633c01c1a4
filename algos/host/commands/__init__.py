"""What the commands do that train no single algorithm: `onejit render`, `dataset` and `certify`."""
