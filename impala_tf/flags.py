"""absl flags, one for every setting in `impala_tf.config`."""

from __future__ import annotations

import sys

from absl import flags

from impala_tf import config as config_lib

_DEFINE = {
    "str": flags.DEFINE_string,
    "bool": flags.DEFINE_bool,
    "int": flags.DEFINE_integer,
    "float": flags.DEFINE_float,
}


def define() -> None:
    """Defines a flag for every setting. Ranges and choices are checked by `config.from_values`."""
    for _, setting in config_lib.settings():
        text = setting.metadata["help"]
        if setting.metadata["choices"]:
            text += f" One of: {', '.join(setting.metadata['choices'])}."
        _DEFINE[str(setting.type)](setting.name, setting.default, text)
        # --help lists only the key flags of the main module.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[setting.name])


def to_config() -> config_lib.Config:
    """Returns the settings from the parsed flags.

    Raises:
      UserError: raised by `config.from_values`.
    """
    return config_lib.from_values(
        {setting.name: flags.FLAGS[setting.name].value for _, setting in config_lib.settings()}
    )
