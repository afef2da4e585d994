//! Each instruction, and each way to get one wrong.

use super::*;

/// The least that is complete, followed by `rest`, which begins on line 4.
fn with(rest: &str) -> Result<Containerfile, String> {
    parse(&format!(
        "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\n{rest}"
    ))
}

fn parse(text: &str) -> Result<Containerfile, String> {
    Containerfile::parse(Path::new("Containerfile"), text).map_err(|mistake| mistake.to_string())
}

fn file(line: usize, source: &str, destination: &str, mode: Option<u32>) -> Item {
    Item {
        line,
        destination: destination.into(),
        content: Content::File {
            source: source.into(),
            mode,
        },
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_says_what_is_copied_and_run_and_nothing_else() {
    let image = with("").unwrap();
    assert_eq!(image.items, [file(2, "app", "app", None)]);
    assert_eq!(
        image.program,
        Program {
            line: 3,
            path: "app".into()
        }
    );
    assert_eq!(image.entrypoint, Some(words(&["/app"])));
    assert_eq!(
        (image.command, image.user, image.working_folder),
        (None, None, None)
    );
    assert!(image.environment.is_empty() && image.labels.is_empty() && image.ports.is_empty());
}

#[test]
fn a_copy_goes_to_a_path_or_into_a_folder_with_its_own_mode_or_a_given_one() {
    let image =
        with("COPY b/c /d\nCOPY ./b/c /d/e/\nCOPY --chmod=0640 b /\nCOPY 'a b' /f").unwrap();
    assert_eq!(
        image.items[1..],
        [
            file(4, "b/c", "d", None),
            file(5, "b/c", "d/e/c", None),
            file(6, "b", "b", Some(0o640)),
            file(7, "a b", "f", None),
        ]
    );
}

#[test]
fn cmd_holds_arguments_or_without_an_entrypoint_the_program() {
    let image = with("CMD [\"--verbose\"]").unwrap();
    assert_eq!(image.command, Some(words(&["--verbose"])));
    assert_eq!(image.program.path, Path::new("app"));

    let image = parse("FROM scratch\nCOPY app /\nCMD [\"/bin/app\", \"$HOME\"]").unwrap();
    assert_eq!(image.command, Some(words(&["/bin/app", "$HOME"])));
    assert_eq!(image.program.path, Path::new("bin/app"));
    assert_eq!(image.program.line, 3);
}

#[test]
fn names_get_values_with_or_without_quotes_and_the_last_one_counts() {
    let image = with("ENV A=1 B=\"two words\" C= D=a=b\nENV A='$2'\nLABEL x.y=\"z\" x=w").unwrap();
    let environment: Vec<_> = image
        .environment
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        environment,
        [("A", "$2"), ("B", "two words"), ("C", ""), ("D", "a=b")]
    );
    let labels: Vec<_> = image
        .labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(labels, [("x", "w"), ("x.y", "z")]);
}

#[test]
fn a_user_is_a_number_with_or_without_a_group() {
    assert_eq!(
        with("USER 65532:65532").unwrap().user.as_deref(),
        Some("65532:65532")
    );
    assert_eq!(with("USER 0").unwrap().user.as_deref(), Some("0"));
}

#[test]
fn a_port_is_tcp_unless_it_says_otherwise() {
    let ports = with("EXPOSE 8080 53/udp\nEXPOSE 8080/tcp").unwrap().ports;
    assert_eq!(
        ports.into_iter().collect::<Vec<_>>(),
        ["53/udp", "8080/tcp"]
    );
}

#[test]
fn a_working_folder_is_made_and_the_last_one_counts() {
    let image = with("WORKDIR /a\nWORKDIR /b/c").unwrap();
    let folder = |line, path: &str| Item {
        line,
        destination: path.into(),
        content: Content::Folder,
    };
    assert_eq!(image.items[1..], [folder(4, "a"), folder(5, "b/c")]);
    assert_eq!(image.working_folder.as_deref(), Some("/b/c"));
}

#[test]
fn comments_and_empty_lines_are_left_out_and_continued_lines_joined() {
    let text = "# A comment\n\n  from scratch\r\nLABEL a=1 \\\n  # of the label\n\n  b=2\\  \n  c=3\nCopy app /app\nCMD [ \\\n\"/app\" \\\n]\n";
    let image = parse(text).unwrap();
    let labels: Vec<_> = image
        .labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(labels, [("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(image.items, [file(9, "app", "app", None)]);
    assert_eq!(image.program.line, 10);
}

#[test]
fn a_mistake_names_the_line_and_what_would_be_right() {
    let supported = "supported are FROM scratch, COPY, USER";
    for (line, said) in [
        ("RUN make", &["RUN is not supported", supported] as &[_]),
        ("COPY <<END /app", &["<<END is not the path of one file"]),
        ("ADD app /app", &["ADD is not supported", supported]),
        ("FROM scratch", &["a second FROM"]),
        ("COPY app", &["COPY got 1 paths", "COPY FILE /PATH"]),
        ("COPY a b /c/", &["COPY got 3 paths"]),
        (
            "COPY --from=build app /app",
            &["--from=build is not supported", "--chmod=0755"],
        ),
        ("COPY --chmod=u+x app /app", &["--chmod=u+x", "octal"]),
        ("COPY --chmod=10000 app /app", &["--chmod=10000", "octal"]),
        (
            "COPY app app",
            &["app is not an absolute path in the image"],
        ),
        (
            "COPY app /a/../app",
            &["/a/../app is not an absolute path in the image"],
        ),
        (
            "COPY ../app /b",
            &["../app is not the path of one file in the context"],
        ),
        (
            "COPY /app /b",
            &["/app is not the path of one file in the context"],
        ),
        (
            "COPY . /b/",
            &[". is not the path of one file in the context"],
        ),
        (
            "COPY * /b/",
            &["* is not the path of one file in the context"],
        ),
        (
            "COPY [\"app\", \"/b\"]",
            &["[app, is not the path of one file"],
        ),
        (
            "COPY $BINARY /b",
            &["$ is not supported here", "single quotes"],
        ),
        (
            "USER nobody",
            &["USER nobody is not numeric", "USER 65532:65532"],
        ),
        ("USER 1:staff", &["USER 1:staff is not numeric"]),
        ("USER +1", &["USER +1 is not numeric"]),
        ("USER", &["is not numeric"]),
        (
            "ENTRYPOINT /app",
            &["ENTRYPOINT /app is not a list of words", "no shell"],
        ),
        ("ENTRYPOINT []", &["ENTRYPOINT [] is not a list of words"]),
        (
            "CMD [1]",
            &["CMD [1] is not a list of words", "CMD [\"/PROGRAM\""],
        ),
        ("ENV A 1", &["ENV got A", "ENV NAME=VALUE"]),
        ("ENV =1", &["ENV got =1"]),
        ("ENV", &["ENV says nothing"]),
        ("ENV A=$B", &["$ is not supported here"]),
        ("ENV A=b\\ c", &["\\ is not supported here"]),
        (
            "LABEL a=\"b",
            &["quotation that begins with \" does not end"],
        ),
        ("LABEL a", &["LABEL got a", "LABEL NAME=VALUE"]),
        ("EXPOSE http", &["EXPOSE http is no port", "8080 or 53/udp"]),
        ("EXPOSE 0", &["EXPOSE 0 is no port"]),
        ("EXPOSE 80/icmp", &["EXPOSE 80/icmp is no port"]),
        ("EXPOSE", &["EXPOSE names no port"]),
        ("WORKDIR a", &["a is not an absolute path in the image"]),
        ("WORKDIR", &["not one path", "WORKDIR /PATH"]),
        (
            "ENTRYPOINT [\"app\"]",
            &["app is not an absolute path in the image"],
        ),
    ] {
        let mistake = with(line).unwrap_err();
        for part in ["Containerfile:4: "].iter().chain(said) {
            assert!(
                mistake.contains(part),
                "{line}: {part:?} is missing from: {mistake}"
            );
        }
    }
}

#[test]
fn a_containerfile_that_lacks_something_is_a_mistake() {
    for (text, said) in [
        ("", "Containerfile:1: it is empty; begin with FROM scratch"),
        ("\n# Nothing\n", "Containerfile:2: it is empty"),
        ("USER 1", "Containerfile:1: USER stands before FROM"),
        (
            "FROM debian",
            "Containerfile:1: FROM debian is not supported; write FROM scratch",
        ),
        ("FROM scratch AS a", "FROM scratch AS a is not supported"),
        (
            "FROM scratch\nCOPY app /app",
            "Containerfile:2: the image runs nothing",
        ),
    ] {
        let mistake = parse(text).unwrap_err();
        assert!(
            mistake.contains(said),
            "{said:?} is missing from: {mistake}"
        );
    }
}
