//! The `gotap` command.

fn main() -> std::process::ExitCode {
    gotap::cli::run()
}
