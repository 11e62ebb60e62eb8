"""Events about objects, for people who run `kubectl describe`."""
