"""Policies over a handful of choices: by gaps, by values, by regularised leaders."""
