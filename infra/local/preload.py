"""Imported once by the server that Airflow's tasks are forked from."""

import boto3

# A client's first cost, the description of the API, is kept by boto3's session. This one connects to nothing.
boto3.client("s3", region_name="us-east-1")
