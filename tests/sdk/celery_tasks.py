"""A Celery application on kombu's SQS transport, for test_celery.py. A program, not a test.

As a worker it appends a line to a file for each task that it has done; as a script it sends the tasks.
"""

import os
import sys
from urllib.parse import quote, urlsplit

from celery import Celery

account, endpoint = os.environ["AWS_ACCESS_KEY_ID"], urlsplit(os.environ["AWS_ENDPOINT_URL"])
app = Celery(broker=f"sqs://{account}:{quote('any/secret', safe='')}@{endpoint.netloc}")
app.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "visibility_timeout": 60,
        "wait_time_seconds": 5,
    },
    task_default_queue="tasks",
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=10,
    worker_enable_remote_control=False,  # SQS has no fan-out for it
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="work", bind=True, max_retries=3)
def work(self, n):
    # Every tenth fails twice before it succeeds.
    if n % 10 == 0 and self.request.retries < 2:
        raise self.retry(countdown=0)
    with open(os.environ["DONE"], "a") as done:
        done.write(f"{n} {self.request.retries}\n")


if __name__ == "__main__":
    with app.producer_or_acquire() as producer:
        for n in range(int(sys.argv[1])):
            work.apply_async((n,), producer=producer)
