"""Packages, buildpacks, resource cache, buildpack cache and droplets, and the clean-up of orphans."""
