"""Ray for whoever has work for it: one of our own on this machine, one that is there, or a RayJob of KubeRay."""
