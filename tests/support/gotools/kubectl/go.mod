// Marks the root of the module; the versions are in v1.*.mod, one file per minor version.
module kubectl

go 1.26.0
