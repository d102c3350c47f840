"""Imported once by the server that Airflow's tasks are forked from: what they need, and would each import again."""

import gc

import boto3
import sampan.ingest.fetch
import sampan.ingest.gate
import sampan.ingest.lake
import sampan.ingest.land
import sampan.ingest.load
import sampan.ingest.publish
import sampan.requests  # noqa: F401

# A client's first cost, the description of the API, is kept by boto3's session. This one connects to nothing.
boto3.client("s3", region_name="us-east-1")

# What is here stays. A task that looks through it for garbage would copy most of it, and take a tenth of a second each time.
gc.collect()
gc.freeze()
