"""Rule packs, plan catalogues and the default model, as files of the package."""
