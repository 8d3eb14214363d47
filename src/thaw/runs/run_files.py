"""Names of the files and folders of a run, relative to its folder."""

SUMMARY = "summary.json"
METRICS = "metrics.csv"  # one row per epoch
PREDICTIONS = "predictions.csv"  # one row per validation image
TEST_PREDICTIONS = "test_predictions.csv"
CORRUPTED_PREDICTIONS = "corrupted_predictions.csv"  # with robustness=true
GROUPS = "groups.csv"  # the group of each validation and test image, if a table of labels has groups
TRACKERS = "trackers.json"  # the ids of a run or sweep in MLflow and Weights & Biases
LOG = "train.log"
CONSOLE = "console.log"  # the output of a sweep's job, kept only if the job failed
TRACEBACK = "traceback.txt"

CHECKPOINTS = "checkpoints"
BEST = "checkpoints/best.ckpt"
LAST = "checkpoints/last.ckpt"
FIGURES = "figures"
TENSORBOARD = "tensorboard"
EVALUATION = "evaluation"

HYDRA = ".hydra"
CONFIG = ".hydra/config.yaml"
HYDRA_CONFIG = ".hydra/hydra.yaml"
OVERRIDES = ".hydra/overrides.yaml"
RESOLVED = ".hydra/resolved.yaml"  # every value of the configuration, with references resolved
LOCK = ".hydra/lock"

# Files of a sweep's folder.
SWEEP_CONFIG = "multirun.yaml"
SWEEP_LOCK = ".lock"
REPORT = "report.html"
SEARCH = "search.json"
