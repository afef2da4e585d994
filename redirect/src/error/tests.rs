//! Every errno of the kernel by the request it answers.

use super::*;

const RULE: Request = Request::Rule(PortRedirect {
    listen: 15080,
    app: 8080,
});

fn refused(request: Request, errno: Errno) -> RedirectError {
    request.refused(errno.into())
}

#[test]
fn what_the_kernel_lacks_is_named_with_its_module_and_version() {
    let cases = [
        (Request::Nftables, Errno::PROTONOSUPPORT, "nf_tables"),
        (Request::Nftables, Errno::OPNOTSUPP, "nft_redir"),
        (Request::Table, Errno::AFNOSUPPORT, "CONFIG_NF_TABLES_INET"),
        (Request::Table, Errno::OPNOTSUPP, "CONFIG_NF_TABLES_INET"),
        (Request::Chain, Errno::NOENT, "nft_chain_nat"),
        (Request::Chain, Errno::NOENT, "Linux 5.2"),
        (Request::Chain, Errno::OPNOTSUPP, "nft_chain_nat"),
        (RULE, Errno::NOENT, "nft_redir"),
    ];
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap();
    for (request, errno, named) in cases {
        let error = refused(request, errno);
        assert!(
            matches!(error, RedirectError::Unsupported { .. }),
            "{error:?}"
        );
        let said = error.to_string();
        assert!(said.contains(named), "{said}");
        assert!(said.contains(release), "{said}");
    }
}

#[test]
fn a_refusal_of_another_kind_says_what_was_asked_and_why_not() {
    let cases = [
        (RULE, Errno::INVAL, "the rule from port 8080 to 15080"),
        (Request::Chain, Errno::BUSY, "the chain prerouting"),
        (Request::Table, Errno::NOMEM, "the table inet stillwake"),
        // That there is no list does not tell what is missing.
        (Request::List("rules"), Errno::NOENT, "to list rules"),
    ];
    for (request, errno, asked) in cases {
        let error = refused(request, errno);
        assert!(matches!(error, RedirectError::Refused { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains(asked), "{said}");
        let reason = io::Error::from(errno).to_string();
        assert!(said.contains(&reason), "{said}");
    }
}

#[test]
fn a_missing_permission_is_the_same_whatever_was_asked() {
    for request in [Request::Nftables, Request::List("rules")] {
        let error = refused(request, Errno::PERM);
        assert!(
            matches!(error, RedirectError::NotPermitted { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn what_to_do_depends_on_the_user() {
    assert!(!remedy(0).contains("user"), "{}", remedy(0));
    let remedy = remedy(65532);
    assert!(remedy.contains("as user 0"), "{remedy}");
    assert!(remedy.contains("of user 65532"), "{remedy}");
}
