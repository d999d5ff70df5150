"""The AWS account: endpoint, credentials, rights, quotas, refusals."""
