//! Keys and certificates of one cluster, made at its start and removed with it.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

use crate::{files, network};

/// A key and its certificate, as files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// The files of the cluster's certificates.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Where the files are; they may not exist yet.
    pub(crate) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The certificate of the cluster's authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The certificate of the authority behind aggregated API servers.
    pub(crate) fn front_proxy_authority(&self) -> PathBuf {
        self.folder.join("front-proxy-ca.crt")
    }

    /// The key that signs the tokens of service accounts.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.folder.join("service-accounts.key")
    }

    /// Key and certificate by name: a component, or a node's kubelet.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        Identity {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        }
    }

    /// Makes all of them.
    pub(crate) fn make(&self, nodes: &[network::NodeNetwork]) -> anyhow::Result<()> {
        files::make_folder(&self.folder)?;
        let authority = self.make_authority("ca", "stillwake test cluster")?;
        let front_proxy = self.make_authority("front-proxy-ca", "stillwake test front proxy")?;
        let api_server_names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "127.0.0.1",
            network::API_SERVER_SERVICE,
            &nodes[0].address().to_string(),
        ]
        .map(ToOwned::to_owned);
        self.make_leaf(
            &authority,
            "api-server",
            "kube-apiserver",
            None,
            &api_server_names,
        )?;
        // Names and groups that Kubernetes binds roles to by default.
        for (name, user, group) in [
            ("administrator", "administrator", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("proxy", "system:kube-proxy", None),
        ] {
            self.make_leaf(&authority, name, user, group, &[])?;
        }
        for node in nodes {
            let names = [node.name.clone(), node.address().to_string()];
            let user = format!("system:node:{}", node.name);
            self.make_leaf(&authority, &node.name, &user, Some("system:nodes"), &names)?;
        }
        self.make_leaf(&front_proxy, "front-proxy", "front-proxy-client", None, &[])?;
        self.make_service_account_key()
    }

    fn make_authority(
        &self,
        name: &str,
        common_name: &str,
    ) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = distinguished_name(common_name, None);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        files::write(&self.folder.join(format!("{name}.crt")), authority.pem())?;
        Ok(authority)
    }

    fn make_leaf(
        &self,
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        user: &str,
        group: Option<&str>,
        names: &[String],
    ) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = distinguished_name(user, group);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, authority)?;
        let identity = self.identity(name);
        files::write(&identity.certificate, certificate.pem())?;
        write_key(&identity.key, &key.serialize_pem())
    }

    /// RSA, because that is what clusters sign tokens with almost everywhere, and rcgen makes no RSA keys.
    fn make_service_account_key(&self) -> anyhow::Result<()> {
        let key = self.service_account_key();
        let made = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .output()
            .context("running openssl")?;
        ensure!(
            made.status.success(),
            "openssl genrsa: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        );
        restrict(&key)
    }
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}

fn write_key(path: &Path, pem: &str) -> anyhow::Result<()> {
    files::write(path, pem)?;
    restrict(path)
}

fn restrict(path: &Path) -> anyhow::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("restricting {}", path.display()))
}
