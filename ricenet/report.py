from ricenet.config import ReportConfig, stage
@stage("report", ReportConfig)
def main(cfg: ReportConfig) -> None:
    print(cfg)
if __name__ == "__main__":
    main()
