"""A work queue over HTTP: competing workers, leases, a failing job that ends as a dead letter.

gateway serve --dev
python examples/work_queue.py                           # or --http URL
"""

from __future__ import annotations

import argparse
import threading

import httpx

JOBS = 20
BROKEN = "job 13"  # no worker can do this one


def worker(url: str, done: list[str], enough: threading.Event) -> None:
    """Take a few jobs at a time; acknowledge what worked, give back what did not."""
    with httpx.Client(base_url=url, timeout=20) as http:
        while not enough.is_set():
            answer = http.post("/v1/queues/jobs/receive", params={"max": 3, "wait": 0.5, "lease": 30})
            for delivery in answer.raise_for_status().json()["deliveries"]:
                if delivery["body"] == BROKEN:
                    http.post(
                        f"/v1/deliveries/{delivery['id']}/nack", json={"outcome": "requeue"}
                    ).raise_for_status()
                    continue
                http.post(f"/v1/deliveries/{delivery['id']}/ack").raise_for_status()
                done.append(delivery["body"])


def main(url: str) -> None:
    with httpx.Client(base_url=url, timeout=20) as http:
        http.put("/v1/queues/dead-jobs", json={}).raise_for_status()
        policy = {"delivery_limit": 3, "backoff_ms": [100, 500], "dead_letter": "$queue/dead-jobs"}
        http.put("/v1/queues/jobs", json={"policy": policy}).raise_for_status()
        for number in range(JOBS):
            http.post("/v1/queues/jobs/messages", content=f"job {number}").raise_for_status()
        done: list[str] = []
        enough = threading.Event()
        workers = [threading.Thread(target=worker, args=(url, done, enough)) for _ in range(3)]
        for thread in workers:
            thread.start()
        dead = http.post("/v1/queues/dead-jobs/receive", params={"max": 1, "wait": 20}).json()["deliveries"]
        while len(done) < JOBS - 1 and any(thread.is_alive() for thread in workers):
            workers[0].join(0.05)
        enough.set()
        for thread in workers:
            thread.join()
    print(f"{len(done)} jobs done, each once; {dead[0]['body']!r} is a dead letter")
    assert sorted(done) == sorted(f"job {n}" for n in range(JOBS) if f"job {n}" != BROKEN)
    assert dead[0]["body"] == BROKEN


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", default="http://127.0.0.1:8080")
    main(parser.parse_args().http)
