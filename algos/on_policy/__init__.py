"""The on-policy loop: what PPO, SPO and MDPO share."""
