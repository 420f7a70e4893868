"""Shared counts: mapped files, one for each worker of an application, read by any of them."""
