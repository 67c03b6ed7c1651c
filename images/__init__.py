"""The container images: what is in each (images.yaml, a Containerfile each), how they are built and checked."""
