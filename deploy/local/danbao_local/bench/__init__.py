"""How fast is it, next to what? Every figure beside its baseline of the same run: `python -m danbao_local.bench`."""
