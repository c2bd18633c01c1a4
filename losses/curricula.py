"""Which prompts to draw, how many rollouts each deserves, and schedules."""
