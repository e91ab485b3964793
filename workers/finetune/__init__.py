"""Fine-tuning: a file a method, and what they share.

families.py declares the families, job.py takes a job from its files to its model card, launch.py starts the training
here or in several processes. None of these imports torch, which belongs after the fork: a method's own module does, and
it is imported when its job runs.
"""
