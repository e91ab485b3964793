"""Fine-tuning. Only `training.py` and `progress.py` import torch, and only when a job runs."""
