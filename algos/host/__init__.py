"""What runs on the host, around the compiled programs: flags, run folders, checkpoints, logs and
pictures.
"""
