//! Full image names. Short ones are refused: Docker, containerd and Kubernetes complete them by rules of their own.

use oci_spec::distribution::Reference;

use crate::error::Error;

/// A name of the form `registry/path:tag`.
#[derive(Debug)]
pub(crate) struct Name {
    /// All of it.
    pub(crate) full: String,
    /// What stands after the colon.
    pub(crate) tag: String,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Result<Self, Error> {
        let incomplete = |reason: String| Error::Name {
            name: name.to_owned(),
            reason,
        };
        let reference: Reference = name
            .parse()
            .map_err(|error: oci_spec::distribution::ParseError| incomplete(error.to_string()))?;
        if reference.digest().is_some() {
            return Err(incomplete(
                "a digest is not known before the build".to_owned(),
            ));
        }
        // Parsing completes a name as Docker does.
        if reference.whole() != name {
            return Err(incomplete(format!("Docker would take it for {reference}")));
        }
        let tag = reference.tag().unwrap_or_default().to_owned();
        Ok(Self {
            full: name.to_owned(),
            tag,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_name_is_taken_as_it_is() {
        for (name, tag) in [
            ("docker.io/stillwake/stillwake-sidecar:0.1.0", "0.1.0"),
            ("stillwake.test/pause:test", "test"),
            ("localhost:5000/a/b/c:1", "1"),
        ] {
            let parsed = Name::parse(name).unwrap();
            assert_eq!((parsed.full.as_str(), parsed.tag.as_str()), (name, tag));
        }
    }

    #[test]
    fn any_other_name_is_refused_with_what_it_lacks() {
        for (name, reason) in [
            ("sidecar", "docker.io/library/sidecar:latest"),
            ("stillwake/sidecar:1", "docker.io/stillwake/sidecar:1"),
            ("docker.io/sidecar:1", "docker.io/library/sidecar:1"),
            (
                "docker.io/stillwake/sidecar",
                "docker.io/stillwake/sidecar:latest",
            ),
            ("", "at least one component"),
            ("docker.io/stillwake/side car:1", "invalid reference format"),
            (
                "docker.io/stillwake/sidecar:1@sha256:\
                 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "a digest is not known",
            ),
        ] {
            let error = Name::parse(name).unwrap_err().to_string();
            assert!(
                error.contains(reason),
                "{reason:?} is missing from: {error}"
            );
            assert!(error.contains("write registry/path:tag"), "{error}");
        }
    }
}
