"""The Lambda shim under AWS's own parts."""
