"""Deletes what jobs that have ended no longer need: the states of their trainings."""

from workers.run import JobResources, checkpoints_folder


def delete_leftovers(resources: JobResources) -> None:
    """Of every job that has ended, however it ended. One small query if there is nothing to delete.

    Runs after a job and not in the gateway or the sweeper, because deleting from a store can take long.
    """
    for job_id in resources.checkpoints.ended_with_states():
        resources.artifacts.delete(checkpoints_folder(job_id))
        resources.checkpoints.forget_states(job_id)
