"""Imported once by the server that Airflow's tasks are forked from: what they need, and would each import again."""

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
