"""Workers: a Celery worker takes ids of jobs from the queue and runs each job under a fenced lease."""
