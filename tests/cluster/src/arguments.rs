//! The command line of the tool. What the commands do is in modules of their names.

use std::{fmt, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::versions::Versions;

/// Starts and stops a real Kubernetes with KEDA, in namespaces of its own, from source.
///
/// Its files lie in the folder `cluster` of `$STILLWAKE_CACHE`, by default ~/.cache/stillwake.
#[derive(Debug, Parser)]
#[command(name = "stillwake-test-cluster")]
pub struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and install what a cluster needs, without starting one
    Build(VersionArguments),
    /// Build what is missing, start a cluster and wait until KEDA serves
    Up {
        #[command(flatten)]
        versions: VersionArguments,
        #[command(flatten)]
        shape: Shape,
    },
    /// End the cluster, whatever state it is in, and remove all it made
    Down,
    /// Say which cluster runs; fails when none does
    Status,
    /// Bring OCI archives to every node
    Load {
        /// Files, as `stillwake-images` writes them
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Run the cluster's own kubectl against it
    Kubectl {
        /// Given to kubectl as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run helm against the cluster
    Helm {
        /// Given to helm as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build KEDA's HTTP Add-on, and install it into the cluster, for what is held against it
    HttpAddOn {
        /// Remove it from the cluster instead, with all that it scales by
        #[arg(long)]
        remove: bool,
    },
    /// Build helm alone, and say where it is: reading a chart takes no cluster
    BuildHelm,
    /// The first process of a node, inside the node's namespaces
    #[command(hide = true)]
    Node {
        /// The node's folder
        #[arg(long)]
        folder: PathBuf,
    },
}

/// Which versions to run.
#[derive(Clone, Debug, Args)]
pub(crate) struct VersionArguments {
    /// Kubernetes, as in the name of a folder `modules/kubernetes-…`
    #[arg(long, env = "STILLWAKE_TEST_KUBERNETES", default_value = "1.37")]
    kubernetes: String,
    /// KEDA, as in the name of a folder `modules/keda-…`
    #[arg(long, env = "STILLWAKE_TEST_KEDA", default_value = "2.21")]
    keda: String,
}

/// What a cluster is like, apart from its versions.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// How many nodes: the first carries the control plane, and pods like the others
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) nodes: u8,
    /// Requests a second to the API server that the controller manager allows each of its controllers; twice as many at
    /// once. Kubernetes' own default is 20, and 30 at once
    #[arg(long, env = "STILLWAKE_TEST_CONTROLLER_REQUESTS", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) controller_requests: Option<u16>,
    /// Kubernetes' feature gates that are to be other than by default, such as `HPAGeneration=false`, separated by commas
    #[arg(long, env = "STILLWAKE_TEST_FEATURE_GATES")]
    pub(crate) feature_gates: Option<String>,
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} node(s)", self.nodes)?;
        if let Some(requests) = self.controller_requests {
            write!(
                formatter,
                " with {requests} requests a second for each controller"
            )?;
        }
        if let Some(gates) = &self.feature_gates {
            write!(formatter, " with the feature gates {gates}")?;
        }
        Ok(())
    }
}

impl VersionArguments {
    /// The modules that these versions are built from.
    pub(crate) fn resolve(&self) -> anyhow::Result<Versions> {
        Versions::find(&self.kubernetes, &self.keda)
    }
}
