"""The patches: small repairs of OpenMMLab modules, one function each, one file per subject.

Importing a file registers its patches. They are imported by name, never as ``from . import
packages``: that form makes Python import ``mmplugins`` itself, which the start-up hook avoids.
"""

from .checkpoints import (
    history_in_checkpoints,
    no_fall_back_to_pickle,
    weights_only_before_torch_2_6,
    weights_only_from_the_net,
)
from .code_in_files import (
    config_of_inferencers_is_data,
    config_of_resumed_is_not_run,
    searched_layers_by_name,
    suppression_by_name,
    warp_mode_by_name,
)
from .complexity import flops_of_given_inputs
from .distributed import (
    activations_of_norms,
    distributed_model_on_cpu,
    points_of_all_processes,
    positives_of_all_processes,
    processes_on_cpu,
)
from .heads import ssd_predicts
from .loading import prepared_before_loading
from .packages import (
    configs_without_weights_in_mim,
    editable_installs_in_mim,
    ext_without_find_loader,
    own_configs_by_name,
    own_configs_without_scope,
    packages_by_module_name,
    packages_without_pkg_resources,
)
from .patch import TARGETS, apply_patches, in_force
from .precision import amp_on_cpu, half_precision_on_cpu

__all__ = [
    "TARGETS",
    "activations_of_norms",
    "amp_on_cpu",
    "apply_patches",
    "config_of_inferencers_is_data",
    "config_of_resumed_is_not_run",
    "configs_without_weights_in_mim",
    "distributed_model_on_cpu",
    "editable_installs_in_mim",
    "ext_without_find_loader",
    "flops_of_given_inputs",
    "half_precision_on_cpu",
    "history_in_checkpoints",
    "in_force",
    "no_fall_back_to_pickle",
    "own_configs_by_name",
    "own_configs_without_scope",
    "packages_by_module_name",
    "packages_without_pkg_resources",
    "points_of_all_processes",
    "prepared_before_loading",
    "positives_of_all_processes",
    "processes_on_cpu",
    "searched_layers_by_name",
    "ssd_predicts",
    "suppression_by_name",
    "warp_mode_by_name",
    "weights_only_before_torch_2_6",
    "weights_only_from_the_net",
]
