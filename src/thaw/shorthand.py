"""What a command line may leave out or say in a shorter way than Hydra takes it."""

# Groups of conf/, of which an option is chosen by name.
GROUPS = (
    "callbacks", "data", "experiment", "logger", "mix", "model", "optimizer", "scheduler", "strategy", "sweep",
    "trainer",
)  # fmt: skip
_FOLDER = "data=image_folder"


def written_out(arguments: list[str]) -> list[str]:
    """`arguments` of the command line in Hydra's terms.

    Where images lie says that they are not the demo's drawings: `data.root=PHOTOS` alone chooses image folders. No
    option of a group, `mix=null`, is an empty list to Hydra.
    """
    told = [
        f"{key}=[]" if argument == f"{key}=null" and key in GROUPS else argument for argument, key in _keys(arguments)
    ]
    keys = [key.lstrip("+~") for _, key in _keys(arguments)]
    if "data.root" in keys and "data" not in keys:
        told.insert(keys.index("data.root"), _FOLDER)
    return told


def _keys(arguments: list[str]) -> list[tuple[str, str]]:
    """Each argument with the key that it sets, which of a flag is the flag itself."""
    return [(argument, argument.partition("=")[0]) for argument in arguments]
