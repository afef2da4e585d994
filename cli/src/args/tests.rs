use super::*;

fn parse(arguments: &[&str]) -> Result<RunArgs, String> {
    let line = ["stillwake", "run"]
        .iter()
        .chain(arguments)
        .chain(&["--", "server", "{port}"])
        .map(OsString::from);
    match Args::read(line) {
        Ok(Args {
            command: Command::Run(run),
        }) => Ok(*run),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_command_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn defaults_are_those_of_the_help() {
    let options = parse(&[]).unwrap().options();
    assert_eq!(options.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(options.target_concurrency, Some(4.0));
    assert_eq!(options.target_request_rate, None);
    assert_eq!((options.keda.min, options.keda.max), (0, 4));
    assert_eq!((options.hpa.min, options.hpa.max), (1, 4));
    assert_eq!(options.command, ["server", "{port}"]);
    assert!(options.check);
}

#[test]
fn a_rate_target_alone_leaves_concurrency_out() {
    let options = parse(&["--target-request-rate", "50"]).unwrap().options();
    assert_eq!(options.target_concurrency, None);
    let both = ["--target-request-rate", "50", "--target-concurrency", "3"];
    assert_eq!(
        parse(&both).unwrap().options().target_concurrency,
        Some(3.0)
    );
}

#[test]
fn mistakes_are_answered_with_what_is_taken() {
    let no_scaling_up = ["--scale-up-pods", "0", "--scale-up-percent", "0"];
    let error = parse(&no_scaling_up).unwrap_err();
    assert!(error.contains("give one of them 1 or more"), "{error}");
    for (arguments, flag, remedy) in [
        (["--listen", "8080"], "--listen", "such as 127.0.0.1:8080"),
        (
            ["--listen", "localhost:81"],
            "--listen",
            "such as 127.0.0.1:81",
        ),
        (["--min", "-1"], "--min", "0 or more"),
        (["--cooldown", "-1s"], "--cooldown", "such as 250ms"),
        (["--max-held", "0"], "--max-held", "at least 1"),
        (
            ["--admin", "127.0.0.1:8080"],
            "--listen and --admin",
            "of its own",
        ),
        (
            ["--cooldown", "10"],
            "--cooldown",
            "such as 250ms, 10s or 1m30s",
        ),
        (
            ["--polling-interval", "0s"],
            "--polling-interval",
            "longer than 0s",
        ),
        (["--max", "0"], "--max", "from 1 to 256"),
        (["--min", "5"], "--min 5", "give --max 5 or more"),
        (["--tolerance", "1"], "--tolerance", "such as 0.1"),
        (
            ["--target-concurrency", "0"],
            "--target-concurrency",
            "at least 0.001",
        ),
    ] {
        let error = parse(&arguments).unwrap_err();
        assert!(
            error.contains(flag) && error.contains(remedy),
            "{arguments:?}: {error}"
        );
    }
}

#[test]
fn the_command_begins_where_the_flags_end_even_without_dashes() {
    let line = [
        "stillwake",
        "run",
        "--max",
        "2",
        "server",
        "--max",
        "{port}",
    ];
    let read = Args::read(line.map(OsString::from)).unwrap();
    let Command::Run(run) = read.command else {
        panic!("{read:?}")
    };
    assert_eq!(run.max, 2);
    assert_eq!(run.command, ["server", "--max", "{port}"]);
}
